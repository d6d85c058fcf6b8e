"""The shop opens with eight products; slugs that exist already are left alone."""

from decimal import Decimal
from typing import Any

from django.db import migrations

# Slug, name, drawing, price in euros, description.
PRODUCTS = [
    (
        "canvas-backpack",
        "Canvas backpack",
        "backpack",
        "74.90",
        (
            "Waxed canvas, two leather straps and a pocket for a laptop of up to 14 inches. "
            "Takes rain well and looks better with every trip."
        ),
    ),
    (
        "cast-iron-teapot",
        "Cast-iron teapot",
        "teapot",
        "38.50",
        (
            "Keeps eight tenths of a litre hot through a long meeting. "
            "With a sieve for loose leaves, enamelled inside."
        ),
    ),
    (
        "desk-lamp",
        "Desk lamp",
        "lamp",
        "59.00",
        "A jointed arm, a warm light and a heavy foot. Dims with one finger and never flickers.",
    ),
    (
        "linen-notebook",
        "Linen notebook",
        "notebook",
        "12.90",
        (
            "192 pages with a fine dot grid, bound in linen so that they lie flat, "
            "and a ribbon that finds the last one."
        ),
    ),
    (
        "pencil-set",
        "Pencil set",
        "pencils",
        "8.40",
        "Three cedar pencils, from soft to hard. They smell of school, in a good way.",
    ),
    (
        "potted-plant",
        "Potted plant",
        "plant",
        "19.00",
        "Forgives missed waterings and dark corners. Comes in a clay pot, with a saucer.",
    ),
    (
        "stoneware-mug",
        "Stoneware mug",
        "mug",
        "14.50",
        (
            "Thrown by hand and glazed twice. Holds 300 millilitres, sits well in the palm "
            "and survives the dishwasher."
        ),
    ),
    (
        "wall-clock",
        "Wall clock",
        "clock",
        "42.00",
        "A birch rim and a quiet movement: the hand sweeps, so nothing ticks.",
    ),
]


def create_products(apps: Any, schema_editor: Any) -> None:
    products = apps.get_model("shop", "Product").objects.using(schema_editor.connection.alias)
    for slug, name, drawing, price, description in PRODUCTS:
        products.get_or_create(
            slug=slug,
            defaults={
                "name": name,
                "drawing": drawing,
                "price": Decimal(price),
                "description": description,
            },
        )


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(create_products, migrations.RunPython.noop)]
