"""The kinds of facts that users state about themselves, with the wordings of statement and question."""

from dataclasses import dataclass

from builder.demo.training.wording import Pool, wordings


@dataclass(frozen=True)
class Kind:
    """One kind of fact: how users state it and ask for it; `{v}` is its value, `{k}` what it is about."""

    topic: str
    state: Pool
    ask: Pool
    heard: tuple[str, ...]
    told: str
    missing: str


NAME = Kind(
    "name",
    wordings(
        """My name is {v}. | I am {v}. | my name is {v} | Hi, I am {v}. | Call me {v}. | Hello, my name is {v}! |
        I'm {v} | You can call me {v}. | People call me {v}. | Hi! My name is {v}. | Hey, {v} here. |
        Let me introduce myself: I am {v}. | This is {v} speaking. | By the way, I am {v}. |
        Good morning, I am {v}. | {v} is my name. | hi im {v} | They call me {v}. | My name's {v}. |
        The name is {v}. | My first name is {v}. | I am called {v}. | My friends call me {v}. |
        Everyone calls me {v}. | You may call me {v}. | Please call me {v}. | I go by {v}. |
        I am {v}, nice to meet you. | Hi, my name is {v}. | Hello, I am {v}. | Hello! I'm {v}. |
        Hey, I am {v}. | Hey, my name is {v}. | Hi, {v} here. | Hello, {v} here. | Hi, this is {v}. |
        Hello, this is {v}. | This is {v}. | It is me, {v}. | I'm {v}, by the way. |
        My name is {v}, by the way. | Good evening, my name is {v}. | Good morning, my name is {v}. |
        you can call me {v} | name: {v} | My name is {v}, what is yours? | I am {v}, and you? |
        I am {v}. Who are you?"""
    ),
    wordings(
        """What is my name? | What's my name? | whats my name | Do you remember my name? | Who am I? |
        What did I say my name was? | Do you know my name? | Can you tell me my name? | Tell me my name. |
        Remember my name? | What am I called? | Do you still know my name? | My name is? | Say my name. |
        What was my name again? | Did you forget my name? | By which name do you know me? |
        Which name did I give you? | What is the name I told you? | What name did I tell you? |
        Which name did I tell you? | What name did I give you? | Do you remember who I am? | Do you know who I am? |
        Do you still know who I am? | Can you remember my name? | Could you tell me my name? | Can you say my name? |
        Please say my name. | Please tell me my name. | Tell me who I am. | Do you remember what my name is? |
        Do you know what I am called? | What did I tell you my name was? | Did you forget who I am? |
        Have you forgotten my name? | Can you tell me who I am? | who am i? | And what is my name? | And who am I? |
        So what is my name? | What do they call me? | What do people call me? | What should you call me? |
        How am I called? | Remember who I am? | Say who I am."""
    ),
    ("Nice to meet you, {v}!", "Hello {v}, nice to meet you!", "Hi {v}! How can I help you?"),
    "Your name is {v}.",
    "You have not told me your name yet.",
)
AGE = Kind(
    "age",
    wordings(
        """I am {v} years old. | My age is {v}. | I'm {v} years old | I turned {v} this year. | I just turned {v}. |
        I will be {v} soon. | My age? {v}. | I am {v} years of age. | My age is {v} years. | I'm {v} years of age. |
        I am now {v} years old. | I turned {v} today. | I just turned {v} years old. | This year I turned {v}. |
        Today I am {v} years old. | I will soon be {v}. | I have turned {v}. | I am {v} now. | I am {v}."""
    ),
    wordings(
        """How old am I? | What is my age? | Do you remember my age? | How old did I say I am? | Tell me my age. |
        How many years old am I? | Do you know how old I am? | What age am I? | What is my age? | What's my age? |
        How old am I now? | How old did I tell you I am? | How old did I say I was? | Do you know my age? |
        Do you remember how old I am? | Can you tell me my age? | Can you tell me how old I am? |
        Tell me how old I am. | What age did I tell you? | What age did I say?"""
    ),
    ("You are {v}, noted.", "Got it, you are {v} years old."),
    "You are {v} years old.",
    "You have not told me your age yet.",
)
CITY = Kind(
    "city",
    wordings(
        """I live in {v}. | I am from {v}. | My home is {v}. | I come from {v}. | I live in {v}, by the way. |
        My city is {v}. | I was born in {v}. | I moved to {v}. | home for me is {v}. | I'm from {v} |
        My flat is in {v}. | I grew up in {v}. | I live in {v} now. | I am living in {v}. | I am in {v}. |
        My home is in {v}. | My home city is {v}. | My home town is {v}. | My town is {v}. |
        The city I live in is {v}. | The city I come from is {v}. | I come from the city of {v}. |
        I live in the city of {v}. | I have a house in {v}. | I have a flat in {v}. | My house is in {v}. |
        I was born and live in {v}. | I moved to {v} this year. | I just moved to {v}. | My family lives in {v}. |
        We live in {v}. | I am from the town of {v}. | I come from {v}, by the way. | I stay in {v}. | city: {v}"""
    ),
    wordings(
        """Where do I live? | Where am I from? | Which city do I live in? | What is my city? |
        Do you remember where I live? | Where did I say I live? | Tell me where I live. | Where do I come from? |
        Where is my home? | What city am I from? | In which town do I live? | Where is it that I live? |
        Where is my house? | Where am I living? | Which city am I from? | Which city do I come from? |
        What city do I live in? | What city do I come from? | In which city do I live? | Which town do I live in? |
        Which town am I from? | What is my home? | What is my home town? | What is my home city? |
        Tell me where I am from. | Tell me where I come from. | Do you know where I live? |
        Do you know where I am from? | Do you remember where I am from? | Do you remember my city? |
        Where did I tell you I live? | Where did I say I am from? | Can you tell me where I live? |
        Can you tell me where I am from? | What is the city I live in? | Where was I born? | Where did I move?"""
    ),
    ("{v} sounds like a nice place.", "Ah, {v}! I will remember that."),
    "You told me {v}.",
    "You have not told me where you live yet.",
)
COLOUR = Kind(
    "favourite colour",
    wordings(
        """My favourite colour is {v}. | my favorite color is {v} | I like the colour {v} best. |
        I love {v}, it is my favourite colour. | The colour I like most is {v}. | {v} is my favourite colour. |
        My favorite color is {v}. | The best colour is {v}. | For me the prettiest colour is {v}. |
        The colour I love is {v}. | The colour I love most is {v}. | I like {v} best of all colours. |
        Of all colours I like {v} best. | My colour is {v}. | I like the color {v} most. |
        My favourite color is {v}. | My favorite colour is {v}. | I love the colour {v}. | I love the color {v}. |
        My best colour is {v}. | The color I like best is {v}. | The color I like most is {v}. |
        For me the best colour is {v}. | {v} is the colour I like best. | {v} is the best colour. |
        {v} is my favorite color. | I think {v} is the best colour. | favourite colour: {v} | favorite color: {v}"""
    ),
    wordings(
        """What is my favourite colour? | what's my favorite color? | Which colour do I like? |
        Do you remember my favourite colour? | What colour do I like best? | Tell me my favourite colour. |
        What is my favorite color? | Which colour is my favourite? | What color do I love? |
        Which colour do I like most? | What colour do I like? | What colour do I love? | What color do I like? |
        What color do I like best? | Which color do I like? | Which color do I like best? | Which colour do I love? |
        Which colour do I like best? | Do you know my favourite colour? | Do you remember my favorite color? |
        Do you remember which colour I like? | Tell me which colour I like. | What is the colour I like best? |
        What is my favourite color? | What is my best colour? | Which is my favourite colour? |
        Which color is my favorite? | What colour did I say I like? | What colour did I tell you? |
        Which colour did I tell you?"""
    ),
    ("{v} is a lovely colour.", "Good choice, I like {v} too."),
    "Your favourite colour is {v}.",
    "You have not told me your favourite colour yet.",
)
FOOD = Kind(
    "favourite food",
    wordings(
        """My favourite food is {v}. | I love {v}. | I like to eat {v}. | I really like {v}. |
        My favorite food is {v}. | I could eat {v} every day. | The food I like best is {v}. |
        Nothing tastes better than {v}. | I love to eat {v}. | I like {v} a lot. |
        The food I like most is {v}. | The food I love is {v}. | My favourite thing to eat is {v}. |
        I like eating {v}. | I love eating {v}. | The best food is {v}. | For me the best food is {v}. |
        {v} is my favourite food. | {v} is the best food. | I eat {v} every day. | I really love {v}. |
        I really like to eat {v}. | I like to eat {v} every day. | favourite food: {v} |
        {v} is what I like to eat."""
    ),
    wordings(
        """What is my favourite food? | What do I like to eat? | What's my favorite food? | Which food do I like? |
        Do you remember my favourite food? | What food do I love? | Tell me what I like to eat. |
        What could I eat every day? | What food do I like? | What food do I like best? | Which food do I love? |
        Which food do I like best? | What is my favorite food? | What is the food I like? | What do I love to eat? |
        What do I eat every day? | Tell me my favourite food. | Tell me which food I like. |
        Do you know my favourite food? | Do you remember what I like to eat? | Do you know what I like to eat? |
        What did I say I like to eat? | Which is my favourite food? | Which food is my favourite?"""
    ),
    ("{v}, tasty!", "Mmm, {v}. I will remember that."),
    "You like {v}.",
    "You have not told me what you like to eat yet.",
)
JOB = Kind(
    "job",
    wordings(
        """I work as a {v}. | I am a {v}. | My job is {v}. | I'm a {v} | I earn my money as a {v}. |
        By profession I am a {v}. | I have a job as a {v}. | My work? I am a {v}. | I work as a {v} now. |
        I am working as a {v}. | I am a {v} by profession. | My profession is {v}. | My job: {v}. | My work is {v}. |
        I have work as a {v}. | I have a job. I am a {v}. | I have a new job as a {v}. | I got a job as a {v}. |
        I'm working as a {v}. | I'm a {v} by profession. | I am employed as a {v}. | I earn money as a {v}. |
        I make money as a {v}. | I make my living as a {v}. | job: {v} | As a job I am a {v}."""
    ),
    wordings(
        """What is my job? | What do I do for a living? | What's my job? | What do I work as? |
        Do you remember my job? | What is my profession? | Tell me my job. | How do I earn my money? |
        What is my profession? | What's my profession? | What is my work? | What work do I do? |
        What job do I have? | Which job do I have? | What job do I do? | Do you know my job? |
        Do you know my profession? | Do you remember my profession? | Do you remember what I do? |
        Tell me my profession. | Tell me what my job is. | As what do I work? | What do I do for work? |
        What do I do to earn money? | How do I make my living? | How do I make my money? |
        What did I say my job is?"""
    ),
    ("A {v}, how interesting!", "That is good work, being a {v}."),
    "You work as a {v}.",
    "You have not told me your job yet.",
)
HOBBY = Kind(
    "hobby",
    wordings(
        """My hobby is {v}. | I like {v}. | I enjoy {v}. | In my free time I do {v}. | My favourite hobby is {v}. |
        I spend my weekends with {v}. | {v} is my hobby. | I am a fan of {v}. | I love {v}. | I enjoy {v} a lot. |
        I like {v} in my free time. | I do {v} in my free time. | I do {v} every weekend. | My hobby: {v}. |
        The hobby I like is {v}. | My favorite hobby is {v}. | I really enjoy {v}. | I really like {v}. |
        {v} is my favourite hobby. | {v} is what I do in my free time. | I spend my free time with {v}. |
        On weekends I do {v}. | hobby: {v} | I am a big fan of {v}. | My free time is for {v}."""
    ),
    wordings(
        """What is my hobby? | What do I do in my free time? | What's my hobby? | What do I enjoy? |
        Do you remember my hobby? | Which hobby do I have? | Tell me my hobby. | How do I spend my free time? |
        What do I like to do? | What do I like to do in my free time? | What do I do on weekends? |
        What is the hobby I have? | What hobby do I have? | Do you know my hobby? | Do you know what my hobby is? |
        Do you remember what my hobby is? | Tell me what my hobby is. | Which is my hobby? |
        What is my favourite hobby? | Which hobby do I like? | How do I spend my weekends? |
        What do I enjoy in my free time? | What did I say my hobby is? | What do I spend my free time with?"""
    ),
    ("{v} sounds like fun!", "{v} is a great hobby."),
    "Your hobby is {v}.",
    "You have not told me your hobby yet.",
)
NUMBER = Kind(
    "number",
    wordings(
        """My favourite number is {v}. | My lucky number is {v}. | Remember the number {v}. | my number is {v} |
        Please remember {v}. | The number is {v}. | Keep the number {v} in mind. | I am thinking of the number {v}. |
        Store the number {v}. | Note the number {v}. | The number to remember is {v}. | Don't forget {v}. |
        Remember {v}. | Remember this number: {v} | Please remember the number {v}. |
        Please remember this number: {v} | Please keep the number {v} in mind. | Keep {v} in mind. |
        Keep this number in mind: {v} | Keep this number: {v} | Don't forget the number {v}. |
        Don't forget this number: {v} | Do not forget the number {v}. | I have a number for you: {v} |
        My favorite number is {v}. | My favourite number: {v} | My lucky number: {v} | The lucky number is {v}. |
        I am thinking of {v}. | I think of the number {v}. | I chose the number {v}. | I choose the number {v}. |
        The number I like is {v}. | The number I chose is {v}. | number: {v} | Here is a number: {v} |
        This is my number: {v} | Note this number: {v} | Store this number: {v} | Save the number {v}. |
        Save this number: {v}"""
    ),
    wordings(
        """What is my number? | Which number did I tell you? | What was the number? | What number did I say? |
        Do you remember the number? | What is my lucky number? | Tell me the number. | What is my favourite number? |
        What number did I ask you to remember? | Which number should you remember? | Can you recall the number? |
        Say the number again. | What is the number? | What's the number? | What was my number? |
        What is my favorite number? | What was my lucky number? | Which number was it? | What number was it? |
        Which number did I say? | Which number did I give you? | What number did I give you? |
        What number did I tell you? | What number did I choose? | Which number did I choose? |
        Which number do I like? | Which number do you remember? | What number should you remember? |
        What number did I want you to remember? | Do you know my number? | Do you know the number? |
        Do you remember my number? | Do you remember which number I said? | Tell me my number. |
        Tell me the number I said. | Tell me which number it was. | Can you tell me the number? |
        Can you say the number? | Say the number. | Say my number. | Please say the number again. |
        What was the number again? | What is the number I told you? | What was the number I gave you? |
        Repeat the number. | Repeat my number."""
    ),
    ("{v}, I will remember that.", "Noted: {v}."),
    "The number is {v}.",
    "You have not told me a number yet.",
)
WORD = Kind(
    "secret word",
    wordings(
        """The secret word is {v}. | The password is {v}. | Remember the word {v}. | my secret word is {v} |
        Our code word is {v}. | The magic word is {v}. | Keep this word for me: {v} |
        Please remember this word: {v}. | The word of the day is {v}. | Don't forget the word {v}. |
        Remember this word: {v} | Please remember the word {v}. | Please keep the word {v} in mind. |
        Keep the word {v} in mind. | Keep the word {v} for me. | Don't forget this word: {v} |
        Do not forget the word {v}. | My word is {v}. | The word is {v}. | The code word is {v}. |
        Our secret word is {v}. | The secret code is {v}. | The secret password is {v}. | My password is {v}. |
        Our password is {v}. | My code word is {v}. | I have a word for you: {v} | Here is the word: {v} |
        Here is the secret word: {v} | This is the secret word: {v} | This is the password: {v} | Note the word {v}. |
        Note this word: {v} | Save the word {v}. | Save this word: {v} | secret word: {v} | password: {v} |
        The magic word: {v} | Let the secret word be {v}."""
    ),
    wordings(
        """What is the secret word? | What was the word? | Which word did I tell you? | What is the password? |
        Do you remember the word? | What is our code word? | Tell me the secret word. | What is the magic word? |
        What word should you remember? | Say the secret word. | Which word did I ask you to keep? |
        Repeat the word I gave you. | What is the word? | What was the secret word? | What was my word? |
        What is my word? | What is my secret word? | What is my password? | What was the password? |
        What was our code word? | What is the code word? | What was the magic word? | Which word was it? |
        What word was it? | Which word did I give you? | Which word did I say? | What word did I say? |
        What word did I tell you? | What word did I give you? | Which word should you remember? |
        Which word do you remember? | What word did I ask you to remember? | Do you know the secret word? |
        Do you know the word? | Do you know the password? | Do you remember the password? |
        Do you remember the secret word? | Do you remember my word? | Tell me the word. | Tell me the password. |
        Tell me our code word. | Tell me my secret word. | Can you tell me the secret word? | Can you say the word? |
        Say the word. | Say the password. | Say the word again. | Repeat the word. | Repeat the secret word. |
        What was the word again? | What is the word I told you?"""
    ),
    ("I will remember the word {v}.", "Noted: {v}."),
    "The word is {v}.",
    "You have not told me a word yet.",
)
PET = Kind(
    "pet",
    wordings(
        """My {k} is called {v}. | I have a {k} named {v}. | My {k}'s name is {v}. | I have a {k} called {v}. |
        The name of my {k} is {v}. | I own a {k}, {v}. | We have a {k} and it is called {v}. | Our {k} goes by {v}. |
        my {k} is named {v} | My {k} answers to {v}. | {v} is my {k}. | I got a {k}, its name is {v}. |
        I have a {k}, {v}. | I have a {k} and it is called {v}. | I have a {k} and its name is {v}. |
        I have a {k}, its name is {v}. | I own a {k} called {v}. | I own a {k} named {v}. | I got a {k} called {v}. |
        I got a {k} named {v}. | I got a new {k} called {v}. | We have a {k} called {v}. | We have a {k} named {v}. |
        We got a {k} named {v}. | Our {k} is called {v}. | Our {k} is named {v}. | Our {k}'s name is {v}. |
        The name of our {k} is {v}. | I call my {k} {v}. | We call our {k} {v}. | My {k} has the name {v}. |
        My {k} goes by {v}. | My {k} is {v}. | {v} is the name of my {k}. | {v} is our {k}. | My {k}: {v} |
        I named my {k} {v}. | We named our {k} {v}."""
    ),
    wordings(
        """What is my {k} called? | What is the name of my {k}? | What is my {k}'s name? | What's my {k} called? |
        Do you remember my {k}'s name? | Tell me the name of my {k}. | How is my {k} called? |
        What is the name my {k} has? | What name does my {k} have? | Which name has my {k}? |
        Which name does my {k} have? | What do I call my {k}? | Do you know my {k}'s name? |
        Do you know the name of my {k}? | Do you know who my {k} is? | Do you remember the name of my {k}? |
        Do you remember who my {k} is? | Do you remember what my {k} is called? | Tell me my {k}'s name. |
        Tell me who my {k} is. | Tell me what my {k} is called. | Can you tell me the name of my {k}? |
        What was the name of my {k}? | What was my {k} called? | What was my {k}'s name again? |
        Say the name of my {k}. | And my {k}? | And who is my {k}? | What did I call my {k}? |
        Which name does my {k} have? | My {k} is called? | Do you know what my {k} is called? |
        What is the name my {k} has? | What's the name of my {k}? | What name does my {k} have? |
        Which name has my {k}? | What do I call my {k}? | How do I call my {k}? | How did I call my {k}? |
        What name did I give my {k}? | What did I name my {k}? | Do you know my {k}'s name? |
        Do you know the name of my {k}? | Do you remember the name of my {k}? |
        Do you remember what my {k} is called? | Tell me my {k}'s name. | Tell me what my {k} is called. |
        Can you tell me the name of my {k}? | Can you tell me my {k}'s name? | What was the name of my {k}? |
        What was my {k} called? | What was my {k}'s name again? | Say the name of my {k}. | And my {k}? |
        What is our {k} called? | What is the {k} called? | What is the name of the {k}? | Who is my {k}?"""
    ),
    ("{v} is a nice name for a {k}.", "What a good name, {v}!"),
    "Your {k} is called {v}.",
    "You have not told me the name of your {k}.",
)
RELATIVE = Kind(
    "relative",
    wordings(
        """My {k}'s name is {v}. | My {k} is called {v}. | My {k} is {v}. | I have a {k} named {v}. |
        The name of my {k} is {v}. | my {k} is named {v} | {v} is my {k}. | I was out with my {k} {v}. |
        I have a {k} called {v}. | I have a {k}. The name is {v}. | I have a {k}, {v}. | My {k} has the name {v}. |
        My {k} goes by {v}. | My {k}, {v}, is here. | My {k} {v} is here. | My {k} {v} is nice. |
        I am here with my {k} {v}. | I was with my {k} {v}. | I talked to my {k} {v}. | I met my {k} {v} today. |
        I saw my {k} {v} today. | I live with my {k} {v}. | {v} is the name of my {k}. | {v} is my {k}'s name. |
        I call my {k} {v}. | My {k}: {v} | The name of my {k}? {v}. | My {k}'s name? {v}."""
    ),
    wordings(
        """What is my {k}'s name? | What is my {k} called? | What is the name of my {k}? | Who is my {k}? |
        Do you remember my {k}'s name? | Tell me the name of my {k}. | What's my {k}'s name? | How is my {k} called?"""
    ),
    ("Say hello to {v} from me!", "{v} is a nice name."),
    "Your {k} is called {v}.",
    "You have not told me the name of your {k}.",
)
PLACE = Kind(
    "place",
    wordings(
        """The {k} is in the {v}. | I put the {k} in the {v}. | My {k} is in the {v}. |
        Remember that the {k} is in the {v}. | I left my {k} in the {v}. | The {k} lies in the {v}. |
        I keep the {k} in the {v}. | You will find the {k} in the {v}. | You will see the {k} in the {v}. |
        The {k} is now in the {v}. | The {k} is kept in the {v}. | My {k} lies in the {v}. |
        My {k} is kept in the {v}. | I put my {k} in the {v}. | I have put the {k} in the {v}. |
        I left the {k} in the {v}. | I have left my {k} in the {v}. | I keep my {k} in the {v}. |
        There is a {k} in the {v}. | Remember: the {k} is in the {v}. | Please remember that my {k} is in the {v}. |
        I hid the {k} in the {v}. | I have hidden my {k} in the {v}. | You can find the {k} in the {v}. |
        You will find my {k} in the {v}. | In the {v} there is a {k}. | In the {v} you will find the {k}. |
        I found the {k} in the {v}. | Someone put the {k} in the {v}. | I moved the {k} to the {v}."""
    ),
    wordings(
        """Where is the {k}? | Where did I put the {k}? | Where is my {k}? | Do you remember where the {k} is? |
        Where can I find the {k}? | Tell me where the {k} is. | Where did I leave the {k}? |
        Where did I leave it, the {k}? | In what place is the {k}? | Where is the {k} now? | Where is my {k} now? |
        Where did I put my {k}? | Where did I leave my {k}? | Where do I keep the {k}? | Where do I keep my {k}? |
        Where can I find my {k}? | Where will I find the {k}? | Where will I find my {k}? |
        Where did I hide the {k}? | Where do you think the {k} is? | Where does the {k} lie? | Where was the {k}? |
        Where was my {k} again? | Do you know where the {k} is? | Do you know where my {k} is? |
        Do you remember where I put the {k}? | Do you remember where my {k} is? | Tell me where my {k} is. |
        Tell me where I put the {k}. | Tell me where I left the {k}. | Can you tell me where the {k} is? |
        Can you tell me where my {k} is? | In which place is the {k}? | In which place is my {k}? |
        I am looking for the {k}. | I am looking for my {k}. | I cannot find the {k}. |
        I can't find my {k}. Where is it?"""
    ),
    ("I will remember that the {k} is in the {v}.", "In the {v}, noted."),
    "The {k} is in the {v}.",
    "You have not told me where the {k} is.",
)
COLOURED = Kind(
    "coloured",
    wordings(
        """My {k} is {v}. | I have a {v} {k}. | I bought a {v} {k}. | The colour of my {k} is {v}. | I own a {v} {k}. |
        my new {k} is {v} | I painted my {k} {v}. | I got a {v} {k} today. | I have a new {v} {k}. |
        I got a new {v} {k}. | I bought a new {v} {k}. | I bought a {v} {k} today. | I own a new {v} {k}. |
        My {k} is {v} now. | I bought a {k}. It is {v}. | I got a {k} and it is {v}. | My new {k} is {v}. |
        The {k} I have is {v}. | The {k} I bought is {v}. | The {k} I got is {v}. | The colour of my new {k} is {v}. |
        The color of my {k} is {v}. | My {k} has the colour {v}. | My {k} has a {v} colour. | I painted the {k} {v}. |
        I have painted my {k} {v}. | The {k} is {v}. | We have a {v} {k}. | We got a {v} {k}. | I like my {v} {k}. |
        my {k}: {v}"""
    ),
    wordings(
        """What colour is my {k}? | What color is my {k}? | Which colour does my {k} have? |
        What is the colour of my {k}? | Do you remember the colour of my {k}? | Tell me the colour of my {k}. |
        Which color is my {k}? | How did I paint my {k}? | What is the color of my {k}? | What is my {k}'s colour? |
        What colour is the {k}? | What color is the {k}? | What colour does my {k} have? |
        What color does my {k} have? | Which colour is my {k}? | Which color does my {k} have? |
        Which colour has my {k}? | What colour did I paint my {k}? | Which colour did I paint my {k}? |
        What colour was my {k}? | What color was my {k} again? | Do you know the colour of my {k}? |
        Do you know what colour my {k} is? | Do you know which colour my {k} is? |
        Do you remember the color of my {k}? | Do you remember what colour my {k} is? | Tell me the color of my {k}. |
        Tell me what colour my {k} is. | Tell me which colour my {k} is. | Can you tell me the colour of my {k}? |
        In which colour is my {k}? | In which colour did I paint my {k}?"""
    ),
    ("A {v} {k}, nice!", "{v} suits a {k}."),
    "Your {k} is {v}.",
    "You have not told me the colour of your {k}.",
)
LIST = Kind(
    "list",
    wordings(
        """I need to buy {v}. | My shopping list: {v}. | Remember this list: {v}. | I have to buy {v}. |
        Please remember: {v}. | Shopping list: {v} | On my list are {v}. | We need {v}. | My list is {v}. |
        Keep this list: {v}. | Don't let me forget {v}. | I want to get {v}. | My shopping list is {v}. |
        My shopping list has {v}. | My list: {v} | My list has {v} on it. | On my shopping list are {v}. |
        On my list: {v} | The list is {v}. | The shopping list: {v} | I need {v}. | I need to get {v}. |
        I have to get {v}. | I must buy {v}. | I want to buy {v}. | We need to buy {v}. | We have to buy {v}. |
        Remember my list: {v}. | Remember my shopping list: {v}. | Please remember my list: {v}. |
        Please remember this list: {v} | Keep my list: {v} | Keep this shopping list: {v} |
        Don't let me forget to buy {v}. | Do not let me forget {v}. | Put {v} on my list. |
        Put {v} on my shopping list. | Add {v} to my list. | Add {v} to my shopping list. | Note my list: {v} |
        Note my shopping list: {v} | Here is my list: {v} | Here is my shopping list: {v} | to buy: {v}"""
    ),
    wordings(
        """What is on my list? | What do I need to buy? | What was on my list? | What is on my shopping list? |
        Tell me my list. | Can you repeat my list? | What did I want to buy? | Read me my list. |
        What do I have to buy? | Do you remember my list? | What things are on my list? | Which things do I need? |
        What is my list? | What is my shopping list? | What's on my list? | What's on my shopping list? |
        What was on my shopping list? | What was my list? | What things do I need? | What things do I have to buy? |
        What things do I need to buy? | Which things do I have to buy? | Which things are on my list? |
        What do I need? | What do I need to get? | What do I have to get? | What must I buy? | What should I buy? |
        What do I want to buy? | What did I need to buy? | What did I want to get? | What did I put on my list? |
        Tell me my shopping list. | Tell me what is on my list. | Tell me what I need to buy. |
        Tell me what I have to buy. | Read my list. | Read me my shopping list. | Repeat my list. |
        Repeat my shopping list. | Please repeat my list. | Say my list. | Say my shopping list. |
        Can you read me my list? | Can you tell me my list? | Can you tell me what is on my list? |
        Do you know my list? | Do you remember my shopping list? | Do you remember what I need to buy? |
        Do you remember what is on my list? | List the things I need to buy. | Show me my list."""
    ),
    ("Your list: {v}.", "I will remember your list: {v}."),
    "On your list: {v}.",
    "You have not told me a list yet.",
)

RELATIVES = (
    "sister",
    "brother",
    "mother",
    "father",
    "friend",
    "boss",
    "teacher",
    "neighbour",
    "uncle",
    "aunt",
    "cousin",
    "daughter",
    "son",
    "wife",
    "husband",
    "grandmother",
)
PET_KINDS = (
    "dog",
    "cat",
    "hamster",
    "rabbit",
    "parrot",
    "horse",
    "turtle",
    "goldfish",
    "pony",
    "canary",
    "snake",
    "lizard",
)
PLACES = (
    "kitchen",
    "garden",
    "drawer",
    "cellar",
    "box",
    "car",
    "bedroom",
    "garage",
    "attic",
    "office",
    "bag",
    "hall",
    "bathroom",
    "cupboard",
    "shed",
    "basket",
    "wardrobe",
    "fridge",
)
THINGS = (
    "car",
    "bike",
    "house",
    "coat",
    "hat",
    "bag",
    "sofa",
    "door",
    "phone",
    "boat",
    "scarf",
    "chair",
    "umbrella",
    "kite",
    "cup",
    "desk",
)

CORRECTIONS: dict[str, Pool] = {
    "name": wordings(
        """Actually my name is {v}. | Sorry, I am {v}, not {o}. | I lied, my name is {v}. |
        Please call me {v} instead. | My name is {v} now. | Change my name to {v}. | My name is actually {v}. |
        Actually I am {v}. | Sorry, my name is {v}. | Sorry, my name is actually {v}. |
        Sorry, I am called {v}, not {o}. | I am not {o}, I am {v}. | My name is not {o}. It is {v}. |
        My name is {v}, not {o}. | No, my name is {v}. | No, I am {v}. | Call me {v} instead. |
        Please call me {v} now. | Call me {v} from now on. | From now on my name is {v}. |
        From now on call me {v}. | I changed my name to {v}. | I have changed my name to {v}. |
        My new name is {v}."""
    ),
    "city": wordings(
        """Actually I live in {v}. | I moved from {o} to {v}. | Now I live in {v}. | I have moved to {v}. |
        Not {o}, I live in {v}. | Correction: I live in {v}. | I live in {v} now. | I now live in {v}. |
        Actually I live in {v} now. | Actually, my city is {v}. | Sorry, I live in {v}. |
        Sorry, I live in {v}, not {o}. | No, I live in {v}. | I do not live in {o}, I live in {v}. |
        I live in {v}, not {o}. | I moved to {v}. | I have moved from {o} to {v}. | I just moved to {v}. |
        My new home is {v}. | My new city is {v}. | My city is {v} now."""
    ),
}
"""How users correct a name or a city; `{o}` is the old value."""
OTHER_CORRECTIONS: Pool = wordings(
    """I changed my mind, my {t} is {v} now. | Sorry, my {t} is {v}. | My {t} is {v} now, not {o}. |
    Let us make my {t} {v} instead. | Actually my {t} is {v}. | Actually, my {t} is {v} now. |
    My {t} is not {o}, it is {v}. | Sorry, my {t} is {v}, not {o}. | No, my {t} is {v}. | I changed my {t} to {v}. |
    Change my {t} to {v}. | My new {t} is {v}. | My {t} is now {v}. | I was wrong, my {t} is {v}. |
    I have changed my mind: my {t} is {v}. | Please change my {t} to {v}. | From now on my {t} is {v}."""
)
LIST_LENGTH: Pool = wordings(
    """How many things are on my list? | How long is my list? | How many items are on my list? |
    Count the things on my list. | How many do I need to buy? | How many entries does my list have? |
    How many things does my list have? | How many things do I need? | How many things do I need to buy? |
    How many things are on the list? | How many items does my list have? | How many are on my list? |
    How many is that on my list? | How long is the list? | Count my list. | Count the items on my list. |
    Can you count the things on my list? | Tell me how many things are on my list. | Tell me how long my list is. |
    What is the length of my list?"""
)
LIST_ITEM: Pool = wordings(
    """What is the {w} thing on my list? | What was {w} on my list? | Which is the {w} thing on my list? |
    The {w} thing on my list? | Tell me the {w} item of my list. | What comes {w} on my list? |
    What is {w} on my list? | What is the {w} item on my list? | What was the {w} item on my list? |
    What was the {w} thing on my list? | Which is the {w} item on my list? | Which thing is {w} on my list? |
    Which thing was {w} on my list? | Which item comes {w} on my list? | Tell me the {w} thing on my list. |
    Tell me the {w} item on my list. | The {w} item on my list? | Name the {w} thing on my list. |
    What comes {w} on the list? | {w} thing on my list? | What did I put {w} on my list?"""
)
ABOUT_ME: Pool = wordings(
    """What do you know about me? | what do you know about me | What did I tell you about me? | What have I told you? |
    Tell me what you know about me. | What do you remember about me? | Tell me about me. | What did I tell you? |
    What do you remember? | What have I told you about me? | Do you know anything about me? |
    Do you remember anything about me? | Tell me what you remember about me. | Tell me what I told you. |
    Say what you know about me. | Can you tell me what you know about me? | Do you know something about me? |
    Do you remember what I told you? | What do you know about me so far? | What have you learned about me? |
    Sum up what you know about me. | Repeat what I told you about me. | Repeat what I told you. |
    Can you repeat what I told you about me? | Please tell me what you know about me. |
    Everything you know about me? | Tell me everything you know about me. | Tell me everything I told you."""
)
PLUS: Pool = wordings(
    """What is my number plus {n}? | Add {n} to my number. | my number plus {n} |
    What do I get if I add {n} to my number? | What is my number plus {n}, please? | How much is my number plus {n}? |
    Can you add {n} to my number? | What is {n} more than my number? | Please add {n} to my number. |
    Calculate my number plus {n}. | My number and {n}, what is that? | What is the sum of my number and {n}? |
    Add my number and {n}. | {n} plus my number? | What is {n} plus my number?"""
)
