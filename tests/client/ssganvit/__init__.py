"""SS-GAN-ViT: its networks, its three phases, and what makes them lawful."""
