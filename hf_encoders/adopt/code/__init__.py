"""The code of a class: found in its file, followed through the imports of its project, laid out as siblings."""
