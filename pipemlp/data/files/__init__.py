"""Reading and writing tables: csv, parquet, npy, npz."""
