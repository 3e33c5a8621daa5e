"""Algorithm 1 of XMK: the smallest common pattern that sends source images to the target."""
