"""From sizes to a verdict: statistics, order test, variants of XMK section 3, the verdict."""
