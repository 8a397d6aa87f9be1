"""The cache of a frozen backbone's features: computed once, read by every run that would compute the same.

`encoder` computes them as the model does, and says what they depend on; `store` keeps them as files;
`source` puts them beside the frames of a dataset.
"""
