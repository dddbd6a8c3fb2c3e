"""A network of one's own becomes a repo that AutoModel.from_pretrained loads, and that is proven to be the same."""
