from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_usersessions", "0001_initial"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="frontendsession",
            index=models.Index(
                fields=["ses_tstamp", "ses_userid", "ses_permanent"],
                name="fe_sessions_ses_tst_577486_idx",
            ),
        ),
        migrations.RemoveIndex(
            model_name="frontendsession",
            name="fe_sessions_ses_tst_d59d23_idx",
        ),
    ]
