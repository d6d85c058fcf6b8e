from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Product",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=80, verbose_name="name")),
                ("slug", models.SlugField(max_length=80, unique=True, verbose_name="slug")),
                ("description", models.TextField(verbose_name="description")),
                (
                    "price",
                    models.DecimalField(
                        decimal_places=2, help_text="In euros", max_digits=8, verbose_name="price"
                    ),
                ),
                (
                    "drawing",
                    models.CharField(
                        choices=[
                            ("backpack", "Backpack"),
                            ("box", "Box"),
                            ("clock", "Clock"),
                            ("lamp", "Lamp"),
                            ("mug", "Mug"),
                            ("notebook", "Notebook"),
                            ("pencils", "Pencils"),
                            ("plant", "Plant"),
                            ("teapot", "Teapot"),
                        ],
                        default="box",
                        max_length=20,
                        verbose_name="drawing",
                    ),
                ),
            ],
            options={
                "verbose_name": "product",
                "verbose_name_plural": "products",
                "ordering": ["name"],
            },
        ),
    ]
