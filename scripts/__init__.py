"""What `make` runs beside the product: setting up, checking, and writing generated pages."""
