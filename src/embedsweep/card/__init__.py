"""The model card of a trained model, and publishing a model."""
