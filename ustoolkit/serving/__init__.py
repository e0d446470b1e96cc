"""An export behind HTTP: TensorFlow Serving's REST interface, and a page to try it on."""
