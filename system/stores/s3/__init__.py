"""Objects on S3 (MinIO), by presigned URLs."""
