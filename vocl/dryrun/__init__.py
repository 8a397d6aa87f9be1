"""A step that is not computed: fake tensors go through it, to find out what a GPU would have to hold."""
