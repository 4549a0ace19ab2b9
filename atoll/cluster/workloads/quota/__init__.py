"""ResourceQuotas: what is used, counted anew when something goes."""
