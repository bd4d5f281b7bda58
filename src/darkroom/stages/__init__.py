"""The stages of the DAG: a file per stage, named as in dvc.yaml and params.yaml."""
