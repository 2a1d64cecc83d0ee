"""A plan: which entities it handles, and what it learns from what their handlers ask for."""
