"""Numbers of things in words."""


def counted(number: int, noun: str) -> str:
    """The number and its noun in the singular or plural: "1 map", "2 maps", "1,000 maps".

    Args:
        number: how many.
        noun: in the singular; one that ends in s, x or ch gets "es", an epoch not.
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}{'es' if noun.endswith(('s', 'x', 'ch')) and noun != 'epoch' else 's'}"
