"""What clients do. A workload has topics and makes workers; the table in `chaos.workloads.table` names them."""
