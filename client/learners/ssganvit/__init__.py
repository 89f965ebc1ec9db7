"""SS-GAN-ViT: a network trained in three phases, each of them federated and private where asked.

After Suh and Ponduru, "SS-GAN-ViT: Advancing Multi-label Chest Image Annotation Through
Self-Supervised Learning, Adversarial Networks, and Vision Transformers", Journal of Industrial
Information Technology and Application 8(1). In the paper's order:

1. ``generator`` and ``critic`` (with ``spectral``), trained against each other in ``adversarial``;
2. ``views`` and ``pretext``, by which the encoder teaches itself in ``self_supervised``;
3. ``encoder`` (with the stem of ``mobilenet``), which reads the critic's features as tokens;
   ``fusion`` of all features into the findings; trained in ``supervised``.

``network`` holds the parts, ``options`` and ``presets`` the settings, ``learner`` is what the
registry knows, and ``quality`` says how good generated images are.
"""
