"""ResourceClaims of pods: made from templates, reserved, freed when nobody uses them."""
