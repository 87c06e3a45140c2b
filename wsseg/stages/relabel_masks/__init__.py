"""Label the training images anew with the network that learnt from them: a round of self-training."""
