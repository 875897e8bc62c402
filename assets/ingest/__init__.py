"""From a source to a regular, tidy series: fetch the file, read it strictly, treat it as declared."""
