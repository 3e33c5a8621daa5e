"""Clean images, their classes and sizes, and how their pixels become model input."""
