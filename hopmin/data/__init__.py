"""Corpora, tokenizers and files of tokens: what models are trained on, independent of any model."""
