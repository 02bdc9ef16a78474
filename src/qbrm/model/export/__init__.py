"""What leaves QBRM: features as the published EBRM code reads them, refined models as transformers loads them."""
