"""What the cluster is: an immutable image of it, the deltas that lead from one image to the next, and the controller.

``image`` values, ``delta`` the folding of records, ``snapshot`` the way back to records, ``features`` what this release
finalises, ``record`` one framed record, ``controller`` the replicated machine that decides.
"""
