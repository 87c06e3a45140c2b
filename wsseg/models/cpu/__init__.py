"""What is only about CPUs: memory allocation, gradients of depthwise convolutions, folded normalisations."""
