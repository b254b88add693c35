"""What tests build on: builders of values, steps, and real parts to run against."""
