"""True masks, drawn by a person. Stages never import this package: a recipe decides which steps receive them.

Truth is checked completely when it is loaded, before any training starts: each mask is read, each coordinate of an outline
is tested, and masks are compared with the image-level labels. Images without truth are not evaluated, and a note reports them.
"""
