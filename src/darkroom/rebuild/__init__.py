"""`darkroom verify`: whether the results rebuild, byte for byte."""
