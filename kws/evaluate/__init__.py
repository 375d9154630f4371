"""How good a model is: the real pipeline on recordings, counted in the field's words. Needs numpy only."""
