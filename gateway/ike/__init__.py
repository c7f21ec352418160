"""Internet Key Exchange: codecs, cryptography, authentication and the engines of each version."""
