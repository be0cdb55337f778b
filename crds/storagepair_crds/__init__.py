"""The API: schemas, validation and typed views."""
