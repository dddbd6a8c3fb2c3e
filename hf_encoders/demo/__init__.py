"""The page of `hf-encoders demo`: search, classify, convert and explore in a browser. It needs Gradio."""
