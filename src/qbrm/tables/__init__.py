"""Tables of text and formatted numbers: for terminals, Markdown and HTML."""
