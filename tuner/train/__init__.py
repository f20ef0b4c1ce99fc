"""Building, training and converting nets; TensorFlow and Keras live in this room."""
