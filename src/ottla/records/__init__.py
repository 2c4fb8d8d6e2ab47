"""Record batches: header, builder, reader, compression, control records, produce-time validation. Pure."""
