"""The methods that come with the program: one method, one file, loaded through the same entry points as strangers'."""
