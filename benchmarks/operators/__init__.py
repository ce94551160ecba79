"""Are DALI's operators what they should be: pictures in, differences from reference implementations out."""
