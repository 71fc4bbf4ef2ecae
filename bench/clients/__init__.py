"""The methods of two Twitter clients, and the programs that try each of them on a lab, unpatched."""
