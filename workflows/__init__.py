"""How the work is run: one verb per file. Ray fans out, MLflow records."""
