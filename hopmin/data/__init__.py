"""Training data: corpora, tokenizers and files of tokens, independent of any model."""
