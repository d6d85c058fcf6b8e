"""URLs of the shop, all served by the frontend session."""

from django.urls import path

from .views import account, basket, catalogue

app_name = "shop"
urlpatterns = [
    path("", catalogue.show_catalogue, name="catalogue"),
    path("product/<slug:slug>/", catalogue.show_product, name="product"),
    path("basket/", basket.show_basket, name="basket"),
    path("basket/add/<slug:slug>/", basket.add_product, name="add_product"),
    path("basket/update/<slug:slug>/", basket.update_product, name="update_product"),
    path("basket/remove/<slug:slug>/", basket.remove_product, name="remove_product"),
    path("account/", account.show_account, name="account"),
    path("account/login/", account.LoginView.as_view(), name="login"),
    path("account/logout/", account.log_out, name="logout"),
    path("account/password/", account.PasswordChangeView.as_view(), name="password"),
]
