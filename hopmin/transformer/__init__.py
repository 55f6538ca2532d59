"""Part II, the transformer: layers with their backward, GPT and Llama, generation, training, pretrained models."""
