"""Not written yet: here models will be trained in FP16, ternary and binary form; the only user of torch."""
