"""Part II, the transformer: layers with their backward, a GPT made of them, languages to learn, and training."""
