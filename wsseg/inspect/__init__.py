"""What looks at a trained classifier and makes no seeds: explanations, and audits of saliency maps."""
