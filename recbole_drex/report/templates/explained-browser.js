// The selected user, and the user to compare with; the selection is stored in the URL, so that it can be shared.
const browse = (stored) => {
  const models = JSON.parse(stored.textContent).map(unpackModel);
  const control = (name) => document.getElementById(`explained-${name}`);
  const chooser = control("model"), find = control("find"), choice = control("user"), companion = control("other");
  const previous = control("previous"), next = control("next"), position = control("position"), view = control("view");
  const model = () => models[Number(chooser.value)];
  const named = (user) => model().users.find((entry) => entry.user === user);
  let users = [];

  const lemmas = (entry) => entry.profile.map((keyword) => keyword.lemma);
  const both = (first, second) => new Set(first.filter((one) => second.includes(one)));

  const alone = (entry) => {
    const shared = new Set(entry.recommendations.flatMap((item) => item.keywords.map((keyword) => keyword.lemma)));
    return [person(entry, { entries: [entry], shared, sharedItems: new Set(), brief: false })];
  };
  const together = (first, second) => {
    const shared = both(lemmas(first), lemmas(second)), entries = [first, second];
    const sharedItems = both(...entries.map((entry) => entry.recommendations.map((item) => item.item)));
    const context = { entries, shared, sharedItems, brief: true };
    const written = first.profile.filter((keyword) => shared.has(keyword.lemma));
    const summary = holding("div", "common", element("h3", `Users ${first.user} and ${second.user}`));
    const words = element("p", written.length ? "Both often write about" : "The two profiles share no word.", "soft small");
    summary.append(words);
    if (written.length) summary.append(chips(written.map(({ word, lemma }) => ({ word, lemma })), shared, entries));
    const titles = first.recommendations.filter((item) => sharedItems.has(item.item)).map((item) => item.title || item.item);
    const items = titles.length ? `Recommended to both: ${titles.join(", ")}.` : "No item is recommended to both.";
    summary.append(element("p", items, "soft small"));
    return [summary, holding("div", "pair", person(first, context), person(second, context))];
  };

  const option = (value, text) => {
    const node = element("option", text);
    node.value = value;
    return node;
  };
  const show = () => {
    const at = users.findIndex((entry) => entry.user === choice.value), entry = users[at];
    const compared = companion.value, others = model().users.filter((one) => one !== entry);
    companion.replaceChildren(option("", "none"), ...others.map((one) => option(one.user, one.user)));
    companion.value = compared !== choice.value && named(compared) ? compared : "";
    previous.disabled = at <= 0;
    next.disabled = at < 0 || at === users.length - 1;
    position.textContent = at < 0 ? "No user matches." : `User ${at + 1} of ${users.length}`;
    const other = named(companion.value);
    view.replaceChildren(...(!entry ? [] : other ? together(entry, other) : alone(entry)));
  };
  const fill = () => {
    const { offers } = model(), key = control("key");
    for (const node of key.children) node.hidden = !offers[node.dataset.about];
    key.hidden = !Object.values(offers).some(Boolean);
    const before = choice.value, wanted = find.value.trim().toLowerCase();
    const text = (entry) => [entry.user, ...entry.profile.map((keyword) => keyword.word),
      ...entry.recommendations.flatMap((item) => [item.item, item.title])].join("\n").toLowerCase();
    users = model().users.filter((entry) => text(entry).includes(wanted));
    choice.replaceChildren(...users.map((entry) => option(entry.user, entry.user)));
    if (users.some((entry) => entry.user === before)) choice.value = before;
    show();
  };

  const SECTION = "#explanations?";
  const saveSelection = () => {
    const state = new URLSearchParams({ user: choice.value });
    if (companion.value) state.set("with", companion.value);
    if (models.length > 1) state.set("model", model().name);
    history.replaceState(null, "", SECTION + state);
  };
  const restoreSelection = () => {
    if (!location.hash.startsWith(SECTION)) return;
    const state = new URLSearchParams(location.hash.slice(SECTION.length));
    const index = models.findIndex(({ name }) => name === state.get("model"));
    if (index >= 0) chooser.value = String(index);
    find.value = "";
    fill();
    const user = state.get("user"), missing = [user, state.get("with")].filter((name) => name && !named(name));
    if (named(user)) choice.value = user;
    show();
    companion.value = state.get("with") ?? "";
    show();
    if (missing.length) position.textContent = `Not in this report: user ${missing.join(" and user ")}`;
    document.getElementById("explanations").scrollIntoView();
  };

  const changed = (action) => () => { action(); saveSelection(); };
  const step = (by) => changed(() => {
    choice.value = users[users.findIndex((entry) => entry.user === choice.value) + by].user;
    show();
  });
  previous.addEventListener("click", step(-1));
  next.addEventListener("click", step(1));
  choice.addEventListener("change", changed(show));
  companion.addEventListener("change", changed(show));
  chooser.addEventListener("change", changed(fill));
  find.addEventListener("input", fill);
  addEventListener("hashchange", restoreSelection);
  control("browser").hidden = false;
  fill();
  restoreSelection();
};

const storedExplanations = document.getElementById("explanations-data");
if (storedExplanations) browse(storedExplanations);
