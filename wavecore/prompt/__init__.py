"""What a language model is told about a window: statistics first, text and tokens built from them."""
