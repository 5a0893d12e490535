"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
document.getElementById("page").textContent = page.title;
