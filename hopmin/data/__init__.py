"""Languages to learn: corpora, tokenizers and files of tokens. Nothing here knows a model."""
