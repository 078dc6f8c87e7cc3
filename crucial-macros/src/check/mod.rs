//! What the model may not say. Every finding is an error on its token; what is left is sound to expand.
