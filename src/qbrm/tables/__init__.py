"""Tables of text and how numbers read in them: for terminals, Markdown and HTML alike."""
